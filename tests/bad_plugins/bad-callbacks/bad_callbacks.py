from argus_core import Callback


class Misspelled(Callback):
    def epoch_completed(self, state): ...


class Arguments(Callback):
    def epoch_complete(self, state, loss): ...


class Engine:
    def epoch_complete(self, engine): ...


class Deaf:
    def on_epoch_end(self, state): ...


class Whole(Callback):
    def __init__(self, folder):
        raise RuntimeError("the doctor builds nothing")

    def epoch_complete(self, state): ...
