import threading

threading.Event().wait()


class Part: ...
