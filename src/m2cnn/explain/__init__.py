"""Explanations of a grade: maps of where a network looked, and scores that say how far such a map can be believed.

`shown` is what a network sees, `targets` what is asked of it, `maps` the methods, `sanity` the check with random
weights, `scores` what a map is worth beside lesions that experts marked (`masks`), `overlay` the picture for people;
`explaining` writes maps of photographs, `scoring` and `table` compare methods and models.
"""
