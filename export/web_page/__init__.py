"""The page that runs a .tflite in a browser: its files, and LiteRT.js from npm."""
