package testkit

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// shortenLogins lets the superuser's password be proven by one round of hashing instead
// of the 4,096 that every connection of a test begins with, which take 20 ms under the
// race detector. It stays SCRAM-SHA-256, and a wrong password is refused as before.
func (p *PG) shortenLogins() error {
	secret, err := scramSecret(p.Password)
	if err != nil {
		return err
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER ROLE "+p.User+" PASSWORD '"+secret+"'")
	return errors.Join(err, conn.Close(ctx))
}

// scramSecret is what PostgreSQL keeps of a password, see pg_authid in its manual and
// RFC 5803.
func scramSecret(password string) (string, error) {
	const rounds = 1
	salt := make([]byte, 16)
	rand.Read(salt) // never fails: the runtime ends the program instead
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	key := func(of string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(of))
		return mac.Sum(nil)
	}
	stored, text := sha256.Sum256(key("Client Key")), base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, text(salt), text(stored[:]), text(key("Server Key"))), nil
}
