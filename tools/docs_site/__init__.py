"""What MkDocs needs to make the site of docs/ from this repository."""
