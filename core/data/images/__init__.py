"""Images as tasks see them: files, folders, resizing, degradations, patches, quality."""
