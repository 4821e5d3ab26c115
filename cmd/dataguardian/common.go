package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
)

// withPages gives a list command its paging flags.
func withPages(c *cobra.Command) *cobra.Command {
	c.Flags().Int32("page", 1, "page to show")
	c.Flags().Int32("limit", 20, "rows per page, at most 100")
	return c
}

func pages(cmd *cobra.Command) (page, limit *int32) {
	if p, err := cmd.Flags().GetInt32("page"); err == nil {
		page = &p
	}
	if l, err := cmd.Flags().GetInt32("limit"); err == nil {
		limit = &l
	}
	return page, limit
}

// shown writes the answer of a call, or passes its error on.
func shown[T proto.Message](cmd *cobra.Command, answer T, err error, people func(T) *table) error {
	if err != nil {
		return err
	}
	return show(cmd, answer, func() *table { return people(answer) })
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
