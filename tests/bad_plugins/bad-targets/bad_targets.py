class Focal: ...


CONSTANT = 2.0


def __getattr__(name: str) -> object:
    if name == "Lazy":
        import absent_of_bad_plugins

        return absent_of_bad_plugins
    raise AttributeError(name)
