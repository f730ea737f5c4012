"""Lissajous curves as a family: x = sin(a t + phase), y = sin(b t), one curve a picture.

    python examples/lissajous.py                                    draws lissajous.png
    fdsl --formula examples/lissajous.py show lissajous             the same from the command line
    fdsl --formula examples/lissajous.py search lissajous --categories 20 --out lissajous.safetensors

A package that is installed needs no --formula: fdsl finds `lissajous` by an entry point in its pyproject.toml.

    [project.entry-points."fdsl.families"]
    lissajous = "my_package.lissajous:Lissajous"
"""

import math

import numpy as np

import fdsl


@fdsl.family("lissajous")
class Lissajous:
    settings = {"largest": 9}

    def sample(self, random, largest):
        a, b = random.integers(1, largest, size=2, endpoint=True)
        if math.gcd(a, b) > 1:
            return None  # the curve of a smaller pair
        return {"a": a, "b": b, "phase": random.uniform(0, np.pi)}

    def vary(self, params, random):
        return params | {"phase": params["phase"] + random.normal(0, 0.2)}

    def polylines(self, params):
        t = np.linspace(0, 2 * np.pi, 1000)
        return [np.stack([np.sin(params["a"] * t + params["phase"]), np.sin(params["b"] * t)], axis=1)]


if __name__ == "__main__":
    from fdsl.contact_sheet import contact_sheet

    dataset = fdsl.Dataset(fdsl.search("lissajous", categories=10), instances=8)
    contact_sheet(dataset).save("lissajous.png")
