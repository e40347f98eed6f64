"""The demonstration on handwritten digits: experiments, and one HTML report. `thinned demo` runs it."""
