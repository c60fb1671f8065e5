"""Exports an object."""


class Counter:
    def __init__(self):
        self.value = 10

    def up(self, by=1):
        self.value += by
        return self.value


exports = Counter()
