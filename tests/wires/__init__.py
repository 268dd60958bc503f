"""Tests of labnet."""
