package artifact

import "strings"

// ManifestKey returns the key of the manifest of the artifact at path.
func ManifestKey(path string) string { return path + "/" + manifestFile }

// PathOf returns the path of the artifact that an object belongs to; false for
// objects that are not where artifacts lie.
func PathOf(key string) (string, bool) {
	i := strings.LastIndexByte(key, '/')
	if i < 0 || !pathForm.MatchString(key[:i]) {
		return "", false
	}
	return key[:i], true
}
