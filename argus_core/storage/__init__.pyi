from argus_core.storage.entry import Entry as Entry
from argus_core.storage.file import CheckpointFile as CheckpointFile
from argus_core.storage.file import read_header as read_header
from argus_core.storage.file import verify_sha256 as verify_sha256
from argus_core.storage.header import Header as Header
from argus_core.storage.writer import write as write
