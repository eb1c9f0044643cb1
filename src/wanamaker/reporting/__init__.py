"""Tables, pictures and pages: the only place that plots or renders HTML."""
