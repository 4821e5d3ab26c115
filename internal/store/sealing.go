package store

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/secret"
)

const (
	secretsColumn = "secrets"
	keysetCheck   = "dataguardian"
)

// SealedTables names the tables whose rows have sealed secrets: a column "secrets"
// that is bound to the row by its column "id". A change of the key walks them all.
func SealedTables() []string { return []string{datasourcesTable, locationsTable, channelsTable} }

// CheckKey fails with CodeWrongKey when the key file is not the one that this
// database's credentials were sealed with. The first call on a database binds it
// to the key file.
func (s *Store) CheckKey(ctx context.Context) error {
	box, err := s.needBox()
	if err != nil {
		return err
	}
	aad := secret.RowAAD("keyset_check", "sealed", "1")
	sealed, err := box.Seal([]byte(keysetCheck), aad)
	if err != nil {
		return err
	}
	if err := s.q.WriteKeysetCheck(ctx, sealed); err != nil {
		return failure(err)
	}
	if sealed, err = s.q.ReadKeysetCheck(ctx); err != nil {
		return failure(err)
	}
	_, err = box.Open(sealed, aad)
	return err
}

func (s *Store) needBox() (*secret.Box, error) {
	if s.box == nil {
		return nil, errs.New(errs.Internal, secret.CodeKeyFile, "no key file is loaded, so stored credentials can be neither written nor read")
	}
	return s.box, nil
}

// seal encrypts the secrets of one row, nil when there are none.
func (s *Store) seal(table, id string, secrets map[string]any) ([]byte, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	box, err := s.needBox()
	if err != nil {
		return nil, err
	}
	plain, err := encode(secrets)
	if err != nil {
		return nil, err
	}
	return box.Seal(plain, secret.RowAAD(table, secretsColumn, id))
}

// unseal decrypts the secrets of one row.
func (s *Store) unseal(table, id string, sealed []byte) (map[string]any, error) {
	if len(sealed) == 0 {
		return map[string]any{}, nil
	}
	box, err := s.needBox()
	if err != nil {
		return nil, err
	}
	plain, err := box.Open(sealed, secret.RowAAD(table, secretsColumn, id))
	if err != nil {
		return nil, err
	}
	var secrets map[string]any
	return secrets, decode(plain, &secrets)
}
