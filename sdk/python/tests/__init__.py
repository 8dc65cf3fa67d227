"""Tests of the package, most of them against real clusters."""
