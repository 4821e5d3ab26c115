package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// tokenEnv holds the API token; a flag would show it to every user of the machine.
const tokenEnv = "DATAGUARDIAN_TOKEN"

// maxAnswer bounds one answer, such as a long log.
const maxAnswer = 64 << 20

// client is a connection to a running control plane.
type client struct {
	conn *grpc.ClientConn

	audit         pb.AuditServiceClient
	auth          pb.AuthServiceClient
	backups       pb.BackupServiceClient
	dashboard     pb.DashboardServiceClient
	datasources   pb.DatasourceServiceClient
	executions    pb.ExecutionServiceClient
	health        pb.HealthServiceClient
	notifications pb.NotificationServiceClient
	storages      pb.StorageLocationServiceClient
}

// addClientFlags gives a command and its children what they need to find the server.
func addClientFlags(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.String("server", "", "gRPC address of the control plane (default: from <data-dir>/endpoints.json)")
	flags.String("token-file", "", "file with the API token (default: $"+tokenEnv+", else <data-dir>/admin-token)")
	flags.Bool("tls", false, "connect with TLS")
	flags.String("tls-ca", "", "PEM file with the certificate authority of the server; implies --tls")
	flags.String("tls-client-cert", "", "PEM file with a certificate of this client; implies --tls")
	flags.String("tls-client-key", "", "PEM file with its key")
	flags.Bool("plaintext", false, "send the token to a server on another machine without TLS")
	flags.StringP("output", "o", "table", "table, or json for programs")
}

// connect finds the server and the token and prepares a connection.
func connect(cmd *cobra.Command) (*client, error) {
	flags := cmd.Flags()
	text := func(name string) string { return flags.Lookup(name).Value.String() }
	if output := text("output"); output != "table" && output != "json" {
		return nil, fmt.Errorf("--output: %q is neither table nor json", output)
	}
	address, err := serverAddress(text("server"), text("data-dir"))
	if err != nil {
		return nil, err
	}
	token, err := readToken(text("token-file"), text("data-dir"))
	if err != nil {
		return nil, err
	}
	transport, err := transportFor(address, tlsFlags{on: text("tls") == "true", ca: text("tls-ca"), cert: text("tls-client-cert"), key: text("tls-client-key")}, text("plaintext") == "true")
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(bearer{token: token}), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, err
	}
	return &client{
		conn: conn, audit: pb.NewAuditServiceClient(conn), auth: pb.NewAuthServiceClient(conn), backups: pb.NewBackupServiceClient(conn),
		dashboard:   pb.NewDashboardServiceClient(conn),
		datasources: pb.NewDatasourceServiceClient(conn), executions: pb.NewExecutionServiceClient(conn),
		health: pb.NewHealthServiceClient(conn), notifications: pb.NewNotificationServiceClient(conn),
		storages: pb.NewStorageLocationServiceClient(conn),
	}, nil
}

func serverAddress(given, dataDir string) (string, error) {
	if given != "" {
		return given, nil
	}
	path := filepath.Join(dataDir, "endpoints.json")
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the directory
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no control plane runs on %s (there is no %s); start one with \"dataguardian serve\", or name it with --server or --data-dir", dataDir, path)
	}
	if err != nil {
		return "", err
	}
	var endpoints struct {
		GRPC string `json:"grpc"`
	}
	if err := json.Unmarshal(raw, &endpoints); err != nil || endpoints.GRPC == "" {
		return "", fmt.Errorf("%s cannot be read as endpoints; name the server with --server", path)
	}
	return endpoints.GRPC, nil
}

func readToken(file, dataDir string) (string, error) {
	if file == "" {
		if token := os.Getenv(tokenEnv); token != "" {
			return token, nil
		}
		file = filepath.Join(dataDir, "admin-token")
	}
	raw, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return "", fmt.Errorf("no API token: set $%s or --token-file (%w)", tokenEnv, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// tlsFlags say how a connection is encrypted.
type tlsFlags struct {
	on            bool
	ca, cert, key string
}

func transportFor(address string, flags tlsFlags, plaintext bool) (credentials.TransportCredentials, error) {
	if flags.on || flags.ca != "" || flags.cert != "" {
		config, err := flags.config()
		if err != nil {
			return nil, err
		}
		return credentials.NewTLS(config), nil
	}
	if !plaintext && !isLoopback(address) {
		return nil, fmt.Errorf("%s is another machine and the token would travel unprotected: use --tls or --tls-ca, or --plaintext if the network is safe", address)
	}
	return insecure.NewCredentials(), nil
}

func (f tlsFlags) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s holds no PEM certificate", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// bearer adds the token to every call. Whether the transport may be plain was
// decided when it was chosen.
type bearer struct{ token string }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return false }

// run adapts a client call to a command.
func run(work func(cmd *cobra.Command, c *client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := connect(cmd)
		if err != nil {
			return err
		}
		return errors.Join(work(cmd, c, args), c.conn.Close())
	}
}
