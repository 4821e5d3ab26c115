package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newUser() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "People who log in"}
	addClientFlags(c)
	c.AddCommand(userList(), userCreate(), userUpdate(), userDelete())
	return c
}

func userList() *cobra.Command {
	return withPages(&cobra.Command{Use: "list", Short: "List users", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			r, err := c.auth.ListUsers(cmd.Context(), &pb.ListUsersRequest{Page: page, Limit: limit})
			return shown(cmd, r, err, func(r *pb.ListUsersResponse) *table {
				t := newTable("NAME", "ROLE", "LOGS IN WITH", "LAST LOGIN", "CREATED", "ID")
				for _, u := range r.GetData() {
					with := "password"
					if u.GetExternal() {
						with = "OpenID"
					}
					t.add(u.GetUsername(), u.GetRole().String(), with, when(u.GetLastLoginAt()), when(u.GetCreatedAt()), u.GetId())
				}
				return t
			})
		})})
}

func userCreate() *cobra.Command {
	c := &cobra.Command{Use: "create NAME", Short: "Make a user", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			role, err := roleFlag(cmd)
			if err != nil {
				return err
			}
			password, _, err := readPassword(cmd, true)
			if err != nil {
				return err
			}
			u, err := c.auth.CreateUser(cmd.Context(), &pb.CreateUserRequest{Username: args[0], Password: password, Role: role})
			return shown(cmd, u, err, accountTable)
		})}
	c.Flags().String("password-file", "", "file with the password; \"-\" reads standard input (default: ask)")
	c.Flags().String("role", "viewer", "viewer reads, operator also runs backups, admin also changes")
	return c
}

func userUpdate() *cobra.Command {
	c := &cobra.Command{Use: "update NAME", Short: "Change a user's role or password and end its sessions", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.userID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			request := &pb.UpdateUserRequest{Id: id}
			if cmd.Flags().Changed("role") {
				if request.Role, err = roleFlag(cmd); err != nil {
					return err
				}
			}
			password, given, err := readPassword(cmd, cmd.Flags().Lookup("password").Value.String() == "true")
			if err != nil {
				return err
			}
			if given {
				request.Password = &password
			}
			u, err := c.auth.UpdateUser(cmd.Context(), request)
			return shown(cmd, u, err, accountTable)
		})}
	c.Flags().String("role", "", "viewer, operator or admin")
	c.Flags().Bool("password", false, "ask for a new password")
	c.Flags().String("password-file", "", "file with a new password; \"-\" reads standard input")
	return c
}

func userDelete() *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Remove a user and end its sessions", Args: cobra.ExactArgs(1),
		RunE: deletion((*client).userID, "Removed the user %s.", func(ctx context.Context, c *client, id string) error {
			_, err := c.auth.DeleteUser(ctx, &pb.DeleteUserRequest{Id: id})
			return err
		})}
}

func accountTable(u *pb.Account) *table {
	t := newTable()
	t.add("Name", u.GetUsername())
	t.add("Role", u.GetRole().String())
	t.add("ID", u.GetId())
	return t
}

// account gives a user the name that resolve looks for.
type account struct{ *pb.Account }

// GetName implements named.
func (a account) GetName() string { return a.GetUsername() }

func (c *client) userID(ctx context.Context, given string) (string, error) {
	if uuid.Validate(given) == nil {
		return given, nil
	}
	return resolve("user", given, func(page int32) ([]account, *pb.Pagination, error) {
		r, err := c.auth.ListUsers(ctx, &pb.ListUsersRequest{Page: &page, Limit: new(pageSize)})
		var rows []account
		for _, u := range r.GetData() {
			rows = append(rows, account{u})
		}
		return rows, r.GetPagination(), err
	})
}

func roleFlag(cmd *cobra.Command) (pb.Access_Role, error) {
	role, known := pb.Access_Role_value[cmd.Flags().Lookup("role").Value.String()]
	if !known {
		return 0, fmt.Errorf("--role: must be viewer, operator or admin")
	}
	return pb.Access_Role(role), nil
}
