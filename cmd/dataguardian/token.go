package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newToken() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "API tokens for people and programs"}
	addClientFlags(c)
	c.AddCommand(tokenList(), tokenCreate(), tokenRevoke())
	return c
}

func tokenList() *cobra.Command {
	return withPages(&cobra.Command{Use: "list", Short: "List tokens", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			r, err := c.auth.ListTokens(cmd.Context(), &pb.ListTokensRequest{Page: page, Limit: limit})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("NAME", "ROLE", "SCOPE", "CREATED", "LAST USED", "EXPIRES", "ID")
				for _, token := range r.GetData() {
					t.add(token.GetName(), token.GetRole().String(), scopeText(token.GetScope()), when(token.GetCreatedAt()), when(token.GetLastUsedAt()), when(token.GetExpiresAt()), token.GetId())
				}
				return t
			})
		})})
}

func tokenCreate() *cobra.Command {
	c := &cobra.Command{Use: "create NAME", Short: "Make a token; its secret is shown once", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			role, known := pb.Access_Role_value[cmd.Flags().Lookup("role").Value.String()]
			if !known {
				return fmt.Errorf("--role: must be viewer, operator or admin")
			}
			scope, err := cmd.Flags().GetStringSlice("scope")
			if err != nil {
				return err
			}
			request := &pb.CreateTokenRequest{Name: args[0], Role: pb.Access_Role(role), Scope: scope}
			ttl, err := cmd.Flags().GetDuration("expires-in")
			if err != nil {
				return err
			}
			if ttl > 0 {
				request.ExpiresAt = timestamppb.New(time.Now().Add(ttl))
			}
			r, err := c.auth.CreateToken(cmd.Context(), request)
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable()
				t.add("Name", r.GetName())
				t.add("Role", r.GetRole().String())
				t.add("Scope", scopeText(r.GetScope()))
				t.add("Expires", when(r.GetExpiresAt()))
				t.add("Token", r.GetToken())
				t.add("", "Keep the token now: it cannot be shown again.")
				return t
			})
		})}
	c.Flags().String("role", "viewer", "viewer reads, operator also runs backups, admin also changes")
	c.Flags().StringSlice("scope", nil, "tags: reach only datasources with one of them (default: everything)")
	c.Flags().Duration("expires-in", 0, "how long it is good (default: until it is revoked)")
	return c
}

// scopeText shows the tags that bound a token.
func scopeText(tags []string) string {
	if len(tags) == 0 {
		return "everything"
	}
	return strings.Join(tags, ", ")
}

func tokenRevoke() *cobra.Command {
	return &cobra.Command{Use: "revoke NAME", Short: "End a token at once", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := resolve("token", args[0], func(page int32) ([]*pb.Token, *pb.Pagination, error) {
				r, err := c.auth.ListTokens(cmd.Context(), &pb.ListTokensRequest{Page: &page, Limit: new(pageSize)})
				return r.GetData(), r.GetPagination(), err
			})
			if err != nil {
				return err
			}
			if _, err := c.auth.RevokeToken(cmd.Context(), &pb.RevokeTokenRequest{Id: id}); err != nil {
				return err
			}
			return say(cmd, "Revoked the token %s.", args[0])
		})}
}
