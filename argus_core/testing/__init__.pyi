from argus_core.testing.checking import check_component as check_component
from argus_core.testing.composition import Example as Example
from argus_core.testing.composition import check_composition as check_composition
from argus_core.testing.composition import check_strategy as check_strategy
from argus_core.testing.composition import compositions as compositions
from argus_core.testing.composition import examples as examples
from argus_core.testing.file_param_table import check_file_param_table as check_file_param_table
from argus_core.testing.parts import ComponentUnderTest as ComponentUnderTest
