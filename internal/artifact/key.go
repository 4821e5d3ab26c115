package artifact

// ManifestKey returns the key of the manifest of the artifact at path.
func ManifestKey(path string) string { return path + "/" + manifestFile }
