from argus_core import hookimpl


class Misspelled:
    @hookimpl
    def transform_gradient(self, parameters):
        pass


class Unmarked:
    def after_update(self, stepped): ...


class Forgotten:
    @hookimpl
    def window_size(self):
        return 1

    def after_updates(self, model, stepped): ...


class Arguments:
    @hookimpl
    def after_update(self, net, stepped):
        pass


class Wrapping:
    @hookimpl(wrapper=True)
    def scale_loss(self, loss):
        return (yield)


class Empty:
    def __init__(self, rho):
        self.rho = rho


class Whole:
    def __init__(self, rho):
        raise RuntimeError("the doctor builds nothing")

    @hookimpl
    def after_update(self, stepped):
        pass

    def update(self):
        """Is not a slot, and is not taken for one."""


class Lonely:
    def bacward(self, loss): ...
