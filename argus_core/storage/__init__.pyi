from argus_core.storage.entry import Entry as Entry
from argus_core.storage.file import CheckpointFile as CheckpointFile
from argus_core.storage.file import verify_sha256 as verify_sha256
from argus_core.storage.forms import open_stored as open_stored
from argus_core.storage.forms import read_header as read_header
from argus_core.storage.forms import write as write
from argus_core.storage.header import Header as Header
