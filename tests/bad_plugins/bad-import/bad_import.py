import absent_of_bad_plugins


class Part: ...
