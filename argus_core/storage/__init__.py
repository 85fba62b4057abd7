"""The file format: tensors and a manifest in one safetensors file, written atomically, checked when read.

::

    8 bytes      length of the header, little-endian
    header       JSON, padded with spaces to a multiple of 8
      __metadata__   argus: the manifest's JSON; argus_crc: its CRC-32; format: "pt"
      <name>         dtype, shape and offsets of each tensor, as in safetensors
    payload      the tensors' bytes, without holes, wide dtypes first

The storage adds two sections to the manifest. ``tensors`` holds each tensor's torch dtype, shape, CRC-32 of
every 8 MiB and memory format, in the order of the file. ``aliases`` holds the other names of tensors that
are stored once. The manifest determines every byte of the header, so a change anywhere in the file
contradicts a checksum or the manifest.

Checksums are compared by four functions:

- `file.verify_sha256` compares the whole file with the SHA-256 that the caller expects, before anything else.
- `text.verify_text` compares the manifest with ``argus_crc`` when the file is opened. Then
  `header.verify_header` compares the rest of the header with what the manifest determines.
- `crc.verify_chunk` compares each chunk of a tensor with its CRC-32 when it is read with ``verify=True``.

Reading a header does not import torch; `write` and reading tensors do.
"""

from __future__ import annotations

from argus_core.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
