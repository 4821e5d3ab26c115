// Package config completes the flags of a command from the environment and a
// YAML file. Precedence: flag, environment, file, default.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// EnvPrefix begins the environment variable of every flag: --data-dir is
// DATAGUARDIAN_DATA_DIR.
const EnvPrefix = "DATAGUARDIAN_"

// FileFlag names the flag that holds the path of the file.
const FileFlag = "config"

// EnvName returns the environment variable of a flag.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Complete sets every flag that was not given from its environment variable, else
// from the file. Every key of the file must be the name of a flag (with "-" or
// "_"). shared names keys that other commands of the program know: they are
// allowed in a file and ignored here. An error is one line that names the bad
// key or value and where it came from.
func Complete(flags *pflag.FlagSet, getenv func(string) string, shared []string) error {
	if err := fromEnv(flags, FileFlag, getenv); err != nil {
		return err
	}
	values, path, err := readFile(flags)
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(values) {
		if flags.Lookup(key) == nil && !slices.Contains(shared, key) {
			return fmt.Errorf("%s: unknown key %q", path, key)
		}
	}
	var failure error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || failure != nil {
			return
		}
		if failure = fromEnv(flags, f.Name, getenv); failure != nil || f.Changed {
			return
		}
		if value, ok := values[f.Name]; ok {
			failure = set(flags, f.Name, value, fmt.Sprintf("%s: %s", path, f.Name))
		}
	})
	return failure
}

func fromEnv(flags *pflag.FlagSet, name string, getenv func(string) string) error {
	f := flags.Lookup(name)
	if f == nil || f.Changed {
		return nil
	}
	value := getenv(EnvName(name))
	if value == "" {
		return nil
	}
	return set(flags, name, value, EnvName(name))
}

func set(flags *pflag.FlagSet, name, value, source string) error {
	err := flags.Set(name, value)
	if err == nil {
		return nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // pflag's own words name the flag, the source is more to the point
	}
	return fmt.Errorf("%s: %w", source, err)
}

// readFile returns the file's values by flag name; none without a file.
func readFile(flags *pflag.FlagSet) (map[string]string, string, error) {
	f := flags.Lookup(FileFlag)
	if f == nil || f.Value.String() == "" {
		return nil, "", nil
	}
	path := f.Value.String()
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file to read
	if errors.Is(err, fs.ErrNotExist) {
		return nil, path, fmt.Errorf("--%s: there is no file %s", FileFlag, path)
	}
	if err != nil {
		return nil, path, fmt.Errorf("--%s: %w", FileFlag, err)
	}
	var content map[string]any
	if err := yaml.Unmarshal(raw, &content); err != nil {
		return nil, path, fmt.Errorf("%s: not a YAML mapping: %s", path, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	values := make(map[string]string, len(content))
	for key, value := range content {
		text, err := scalar(value)
		if err != nil {
			return nil, path, fmt.Errorf("%s: %s: %w", path, key, err)
		}
		values[strings.ReplaceAll(key, "_", "-")] = text
	}
	return values, path, nil
}

// scalar writes a YAML value as a flag would be written.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string, bool, int, int64, uint64, float64:
		return fmt.Sprint(v), nil
	case []any:
		parts := make([]string, 0, len(v))
		for _, item := range v {
			text, err := scalar(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	default:
		return "", errors.New("must be a plain value or a list of them")
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
