"""Exports a class, which is instantiated with the start arguments."""


class Greeter:
    def __init__(self, greeting="hello"):
        self.greeting = greeting

    def greet(self, name):
        return f"{self.greeting} {name}"

    def __call__(self, name):
        return f"called {name}"


exports = Greeter
