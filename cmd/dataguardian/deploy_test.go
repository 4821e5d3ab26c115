package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

const deployDir = "../../docs/deploy"

// requireCommand requires that the program takes the arguments, and that roles
// among them exist.
func requireCommand(t *testing.T, args []string) {
	t.Helper()
	root := newRoot("test")
	command, rest, err := root.Find(args)
	require.NoError(t, err, args)
	require.NotEqual(t, root, command, "%v names no command", args)
	require.NoError(t, command.ParseFlags(rest), args)
	if command.Name() != "migrate" {
		roles, err := command.Flags().GetStringSlice("roles")
		require.NoError(t, err)
		require.NotEmpty(t, roles)
	}
	_, err = serverConfig(command, "test")
	require.NoError(t, err, args)
}

// requireSetting requires that an environment variable is a flag of the server.
func requireSetting(t *testing.T, name string) {
	t.Helper()
	flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "DATAGUARDIAN_")), "_", "-")
	require.NotNil(t, newServe("test").Flags().Lookup(flag), "%s is no setting", name)
}

func TestTheExampleUnitsStartWhatThereIs(t *testing.T) {
	units, err := filepath.Glob(filepath.Join(deployDir, "*.service"))
	require.NoError(t, err)
	require.Len(t, units, 3)
	for _, unit := range units {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			keys := readUnit(t, unit)
			for _, section := range []string{"Unit.Description", "Service.ExecStart", "Service.EnvironmentFile", "Install.WantedBy"} {
				require.NotEmpty(t, keys[section], section)
			}
			for _, line := range append(keys["Service.ExecStart"], keys["Service.ExecStartPre"]...) {
				program, args, found := strings.Cut(line, " ")
				require.True(t, found, line)
				require.Equal(t, "/usr/local/bin/dataguardian", program)
				requireCommand(t, strings.Fields(args))
			}
		})
	}
}

// readUnit reads a unit file, see systemd.syntax(7): values by section and key.
func readUnit(t *testing.T, path string) map[string][]string {
	t.Helper()
	unit, err := os.ReadFile(path)
	require.NoError(t, err)
	keys, section := map[string][]string{}, ""
	for line := range strings.Lines(string(unit)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			require.True(t, strings.HasSuffix(line, "]"), line)
			section = strings.Trim(line, "[]")
		default:
			key, value, found := strings.Cut(line, "=")
			require.True(t, found, line)
			require.NotEmpty(t, section, line)
			keys[section+"."+key] = append(keys[section+"."+key], value)
		}
	}
	return keys
}

func TestTheExampleEnvironmentHoldsSettings(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(deployDir, "dataguardian.env"))
	require.NoError(t, err)
	set := 0
	for line := range strings.Lines(string(raw)) {
		if name, _, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(line, "#") {
			requireSetting(t, name)
			set++
		}
	}
	require.Positive(t, set)
}

func TestTheExampleComposeFileStartsWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(deployDir, "compose.yaml"))
	require.NoError(t, err)
	var file struct {
		Services map[string]struct {
			Image       string
			Command     []string
			Environment map[string]string
			Secrets     []string
			Volumes     []string
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		}
		Secrets map[string]struct{ File string }
		Volumes map[string]any
	}
	require.NoError(t, yaml.Unmarshal(raw, &file))
	var ours []string
	for name, service := range file.Services {
		require.NotEmpty(t, service.Image, name)
		for other := range service.DependsOn {
			require.Contains(t, file.Services, other, name)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			require.Contains(t, file.Volumes, source, name)
		}
		for _, secret := range service.Secrets {
			require.Contains(t, file.Secrets, secret, name)
		}
		if service.Image != "dataguardian" {
			continue
		}
		ours = append(ours, name)
		requireCommand(t, service.Command)
		for variable := range service.Environment {
			requireSetting(t, variable)
		}
	}
	require.ElementsMatch(t, []string{"migrate", "api", "scheduler", "worker"}, ours)
}
