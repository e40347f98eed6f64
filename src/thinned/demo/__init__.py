"""The demonstration makes experiments on handwritten digits and one HTML report. `thinned demo` runs it.

Each experiment is a file that returns a `section`; `run` has their order, `report` makes the page, and
`settings` how large all is.
"""
