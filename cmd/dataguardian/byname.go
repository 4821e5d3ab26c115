package main

import (
	"context"

	"github.com/spf13/cobra"
)

// finder returns the id of what a name or an id means.
type finder func(c *client, ctx context.Context, given string) (id string, err error)

// byName is the body of a command about the one thing that its argument names.
func byName(find finder, do func(cmd *cobra.Command, c *client, id string) error) func(*cobra.Command, []string) error {
	return run(func(cmd *cobra.Command, c *client, args []string) error {
		id, err := find(c, cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return do(cmd, c, id)
	})
}

// deletion is the body of a command that deletes the one thing that its argument
// names; done says so, with the argument for %s.
func deletion(find finder, done string, remove func(ctx context.Context, c *client, id string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return byName(find, func(cmd *cobra.Command, c *client, id string) error {
			if err := remove(cmd.Context(), c, id); err != nil {
				return err
			}
			return say(cmd, done, args[0])
		})(cmd, args)
	}
}
