class Part: ...


1 / 0
