"""Tests of labnet.discovery."""
