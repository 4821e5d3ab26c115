package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const sitePrefix = "postgres.init-"

// site is a cluster under construction. Until it settles, no start takes it for
// a cluster, and the next one removes it.
//
// Near, it is DataDir/postgres.init-ID, whose cluster moves to DataDir/postgres.
// Far, when the account cannot reach DataDir, it is FallbackRoot/cluster-ID;
// DataDir/postgres.init-ID is a link to its cluster and becomes
// DataDir/postgres.
type site struct {
	config  Config
	account account
	mark    string // DataDir/postgres.init-ID
	dir     string // given to the account
	cluster string // below dir
	far     bool
}

// newSite chooses the place and makes it.
func newSite(ctx context.Context, c Config, h home, i install) (site, error) {
	id, err := randomHex(4)
	if err != nil {
		return site{}, err
	}
	near, err := h.account.reaches(ctx, i.postgres(), c.DataDir)
	if err != nil {
		return site{}, errs.Wrap(err, errs.Invalid, CodeDataDir, "it cannot be told whether PostgreSQL's account reaches %q", c.DataDir)
	}
	s := site{config: c, account: h.account, mark: filepath.Join(c.DataDir, sitePrefix+id), far: !near}
	if near {
		s.dir, s.cluster = s.mark, filepath.Join(s.mark, "cluster")
	} else {
		s.dir = filepath.Join(c.FallbackRoot, "cluster-"+id)
		s.cluster = filepath.Join(s.dir, "postgres")
		if err := s.goFar(ctx, i); err != nil {
			return site{}, err
		}
	}
	err = os.Mkdir(s.dir, 0o700)
	if err == nil {
		err = s.account.give(s.dir)
	}
	if err != nil {
		return site{}, errors.Join(errs.Wrap(err, errs.Unavailable, CodeDataDir, "the directory %q for the new cluster cannot be made; check the rights and the disk", s.dir), s.discard())
	}
	return s, nil
}

// goFar makes the fallback root, says where the cluster goes and why, and marks
// the site before it exists, so that nothing is forgotten when we are killed.
func (s site) goFar(ctx context.Context, i install) error {
	root := s.config.FallbackRoot
	if err := os.MkdirAll(root, 0o711); err != nil { //nolint:gosec // searched by the account, its contents are private
		return errs.Wrap(err, errs.Unavailable, CodeDataDir, "the directory %q for the cluster cannot be made; check the rights and the disk", root)
	}
	reached, err := s.account.reaches(ctx, i.postgres(), root)
	if err != nil || !reached {
		return errs.Wrap(err, errs.Invalid, CodeDataDir,
			"PostgreSQL's account (uid %d) reaches neither %q nor %q; choose a --data-dir whose parents it may search", s.account.uid, s.config.DataDir, root)
	}
	s.config.Logger.WarnContext(ctx, "the data directory cannot be reached by the account PostgreSQL runs as; the cluster goes elsewhere, back it up from there",
		"data_dir", s.config.DataDir, "cluster", s.cluster)
	if err := os.Symlink(s.cluster, s.mark); err != nil {
		return errs.Wrap(err, errs.Unavailable, CodeDataDir, "the link %q cannot be made; check the rights and the disk", s.mark)
	}
	return nil
}

// initialise makes the cluster: UTF-8, byte-order collation, password
// authentication for everyone.
func (s site) initialise(ctx context.Context, i install, password string) error {
	secret := filepath.Join(s.dir, "pwfile")
	if err := writePrivate(secret, password+"\n"); err != nil {
		return errs.Wrap(err, errs.Unavailable, CodeStart, "the password for initdb cannot be written; check the disk")
	}
	if err := s.account.give(secret); err != nil {
		return err
	}
	out, err := s.account.run(ctx, i.initdb(), s.dir,
		"--pgdata="+s.cluster, "--username="+superuser, "--pwfile="+secret,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--lc-messages=C", "--data-checksums")
	if err != nil {
		return errs.Wrap(errors.Join(err, errors.New(lastLines(out, 8))), errs.Unavailable, CodeStart,
			"initdb could not create the private PostgreSQL cluster; its last words are in the log")
	}
	if err := os.Remove(secret); err != nil {
		return errs.Wrap(err, errs.Internal, CodeStart, "the password file for initdb cannot be removed")
	}
	return nil
}

// settle makes the finished cluster the cluster of the data directory, in one
// step.
func (s site) settle(h home) (home, error) {
	from := s.cluster
	if s.far {
		from = s.mark
	}
	if err := os.Remove(h.link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, errors.Join(errs.Wrap(err, errs.Invalid, CodeDataDir, "the empty directory %q cannot be replaced; remove it", h.link), s.discard())
	}
	err := os.Rename(from, h.link)
	if err == nil {
		err = errors.Join(syncDir(s.config.DataDir), syncDir(filepath.Dir(s.dir)))
	}
	if err != nil {
		return h, errors.Join(errs.Wrap(err, errs.Unavailable, CodeDataDir, "the new cluster cannot be moved to %q; check the rights and the disk", h.link), s.discard())
	}
	if !s.far {
		if err := os.Remove(s.dir); err != nil {
			return h, err
		}
	}
	return findHome(s.config)
}

// discard removes an unfinished site.
func (s site) discard() error {
	failures := []error{os.RemoveAll(s.dir)}
	if s.far {
		if err := os.Remove(s.mark); !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// sweepSites removes what killed starts left behind. The data directory is
// locked: nobody works on them.
func sweepSites(c Config) error {
	marks, err := os.ReadDir(c.DataDir)
	if err != nil {
		return unreadable(c.DataDir, err)
	}
	for _, mark := range marks {
		id, isSite := strings.CutPrefix(mark.Name(), sitePrefix)
		if !isSite {
			continue
		}
		if err := sweepSite(c, filepath.Join(c.DataDir, mark.Name()), id); err != nil {
			return errs.Wrap(err, errs.Unavailable, CodeDataDir, "the remains %q of an interrupted start cannot be removed; remove them", mark.Name())
		}
	}
	return nil
}

func sweepSite(c Config, mark, id string) error {
	far := filepath.Join(c.FallbackRoot, "cluster-"+id)
	if target, err := os.Readlink(mark); err == nil && target == filepath.Join(far, "postgres") {
		if err := os.RemoveAll(far); err != nil {
			return err
		}
	}
	return os.RemoveAll(mark)
}

func randomHex(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		return "", errs.Wrap(err, errs.Internal, CodeStart, "the system gives no random numbers")
	}
	return hex.EncodeToString(b), nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // a directory of ours
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
