"""Dockerfiles: their syntax, and the images of those that need no program: a base, files of the codeset in one layer, and a configuration.

No program of an image runs here, so an instruction such as RUN is left to a program that builds images (`building_program`).
"""
