"""What TF-Serving needs beside a SavedModel, and the embedded server."""
