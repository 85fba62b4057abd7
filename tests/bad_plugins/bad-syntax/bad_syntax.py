class Part: ...


def f(:
    pass
