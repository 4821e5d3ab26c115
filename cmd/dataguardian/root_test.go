package main

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestACommandThatDoesNotExistIsAnErrorInEveryGroup(t *testing.T) {
	groups := 0
	var visit func(c *cobra.Command, path []string)
	visit = func(c *cobra.Command, path []string) {
		if c.HasSubCommands() {
			groups++
			root := newRoot("test")
			root.SetArgs(append(path[:len(path):len(path)], "bogus"))
			require.ErrorContains(t, root.Execute(), "unknown command", c.CommandPath())
		}
		for _, child := range c.Commands() {
			visit(child, append(path[:len(path):len(path)], child.Name()))
		}
	}
	visit(newRoot("test"), nil)
	require.Greater(t, groups, 8)
}

func TestAGroupAloneShowsItsHelp(t *testing.T) {
	root := newRoot("test")
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"execution"})
	require.NoError(t, root.Execute())
	require.Contains(t, out.String(), "dataguardian execution [command]")
	require.Contains(t, out.String(), "retry-upload")
}

func TestMissingArgumentsAreNamed(t *testing.T) {
	root := newRoot("test")
	root.SetArgs([]string{"backup", "list"})
	require.EqualError(t, root.Execute(), "accepts 1 arg(s), received 0; usage: dataguardian backup list DATASOURCE [flags]")
}
