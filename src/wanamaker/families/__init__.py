"""One folder per model family. Families never import each other; see README.md here for their contract."""
