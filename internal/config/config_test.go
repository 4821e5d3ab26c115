package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/config"
)

func complete(t *testing.T, file string, env map[string]string, args ...string) (*pflag.FlagSet, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("config", "", "")
	flags.String("data-dir", "./data", "")
	flags.Int("concurrency", 2, "")
	flags.Duration("lease", time.Minute, "")
	flags.StringSlice("roles", []string{"all"}, "")
	flags.Bool("demo", false, "")
	if file != "" {
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		args = append(args, "--config", path)
	}
	require.NoError(t, flags.Parse(args))
	return flags, config.Complete(flags, func(name string) string { return env[name] }, []string{"http-addr"})
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file := "data-dir: /from-file\nconcurrency: 3\nlease: 5s\nroles: [api, backup]\nhttp_addr: for another command\n"
	env := map[string]string{"DATAGUARDIAN_DATA_DIR": "/from-env", "DATAGUARDIAN_CONCURRENCY": "4"}
	flags, err := complete(t, file, env, "--concurrency", "5")
	require.NoError(t, err)
	for name, want := range map[string]string{"data-dir": "/from-env", "concurrency": "5", "lease": "5s", "roles": "[api,backup]", "demo": "false"} {
		require.Equal(t, want, flags.Lookup(name).Value.String(), name)
	}
}

func TestTheFileMayComeFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte("demo: true"), 0o600))
	flags, err := complete(t, "", map[string]string{"DATAGUARDIAN_CONFIG": path})
	require.NoError(t, err)
	require.Equal(t, "true", flags.Lookup("demo").Value.String())
}

func TestABadSettingIsOneLineThatNamesItAndItsSource(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		env  map[string]string
		want []string
	}{
		"unknown key":     {"hots: x", nil, []string{"config.yaml", `unknown key "hots"`}},
		"bad value":       {"concurrency: many", nil, []string{"config.yaml: concurrency", "many"}},
		"nested value":    {"lease: {a: 1}", nil, []string{"lease", "must be a plain value"}},
		"not a mapping":   {"- a", nil, []string{"config.yaml", "not a YAML mapping"}},
		"bad environment": {"", map[string]string{"DATAGUARDIAN_LEASE": "soon"}, []string{"DATAGUARDIAN_LEASE", "soon"}},
		"absent file":     {"", map[string]string{"DATAGUARDIAN_CONFIG": "/no/such.yaml"}, []string{"/no/such.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := complete(t, c.file, c.env)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "\n")
		})
	}
}
