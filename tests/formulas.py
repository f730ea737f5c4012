"""Formulas of a user, one for each that an engine draws, in arithmetic that is exact everywhere."""

from __future__ import annotations

import numpy as np

import fdsl


@fdsl.family("sparks")
class Sparks:
    def sample(self, random):
        return {"centres": random.random((5, 2)), "weight": random.uniform(1, 4)}

    def vary(self, params, random):
        return params | {"noise": random.random((600, 5, 2)) - 0.5}

    def points(self, params):
        noise = params["noise"]
        return (params["centres"] * params["weight"] + noise * noise * noise).reshape(-1, 2)


@fdsl.family("sparks_in_space")
class SparksInSpace:
    def sample(self, random):
        return {"directions": random.random((5, 3)) - 0.5}

    def points(self, params):
        steps = np.arange(600)[:, None, None] / 600
        return (params["directions"] * steps + params["directions"][::-1] * steps * steps).reshape(-1, 3)


@fdsl.family("zigzags")
class Zigzags:
    def sample(self, random):
        return {"start": random.integers(-50, 50, (4, 2)), "slope": random.random()}

    def vary(self, params, random):
        return params | {"steps": random.integers(-20, 20, (4, 30, 2))}

    def polylines(self, params):
        lines = params["start"][:, None] + np.cumsum(params["steps"], axis=1)
        return [*(lines * params["slope"]), lines[0, :1], lines[1, 3:5]]


@fdsl.family("ripples")
class Ripples:
    def sample(self, random):
        return {"slopes": random.uniform(1, 5, 2)}

    def vary(self, params, random):
        return params | {"shift": random.random()}

    def field(self, params, x, y):
        a, b = params["slopes"]
        return (a * x * x + b * y + params["shift"]) % 1.25 - 0.125
