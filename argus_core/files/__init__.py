"""Safe access to untrusted files: reading with limits, writing only inside a given folder."""
