"""Files that anybody may have made: read within bounds, written inside one folder."""
