answer = input("A question that nobody hears: ")


class Part: ...
