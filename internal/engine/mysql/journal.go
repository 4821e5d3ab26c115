package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// journalPiece is how much of a note goes into one row, in bytes: far below what any
// server takes in one statement.
const journalPiece = 256 << 10

// journal is the table, in the scratch database itself, that a swap is noted in.
func (w *swap) journal() string { return journalIn(w.Fresh) }

func journalIn(fresh string) string { return ident(fresh) + "." + ident("dg_swap_"+fresh) }

// note writes down what is about to happen. The note counts when its digest is
// there, which is written last.
//
// It is not signed. Nobody acts on a note because it is there: recovery is asked for
// by the token of a restore in our own books, and reads the note in the database of
// that name only. Who could forge that one has the rights on scratch databases that
// the restore's user has, and with them could as well write into the restored tables
// and objects themselves, before they move and without any crash; a signature would
// guard the note and nothing that it speaks of. What guards both is that no other user
// of the server has rights on these databases, which SECURITY.md asks for.
func (w *swap) note(ctx context.Context, s *session) error {
	const doing = "noting what is about to happen"
	document, err := json.Marshal(w)
	if err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the exchange of tables could not be written down")
	}
	if err := s.exec(ctx, "CREATE TABLE "+w.journal()+" (n INT PRIMARY KEY, piece LONGBLOB NOT NULL) ENGINE=InnoDB", doing); err != nil {
		return err
	}
	sum := sha256.Sum256(document)
	insert := func(n int, piece []byte) error {
		return s.exec(ctx, "INSERT INTO "+w.journal()+" VALUES (?, ?)", doing, n, piece)
	}
	n := 1
	for ; len(document) > 0; n++ {
		size := min(len(document), journalPiece)
		if err := insert(n, document[:size]); err != nil {
			return err
		}
		document = document[size:]
	}
	return insert(0, []byte(hex.EncodeToString(sum[:])))
}

// Words that are added to a note later, by their place.
const (
	placeOfDone    = -1
	placeOfUndoing = -2
)

// settle ends it: there is nothing to finish or to take back, for everything is
// where it was.
func (w *swap) settle(ctx context.Context, s *session) error {
	return s.exec(ctx, "DROP TABLE IF EXISTS "+w.journal(), "noting the end")
}

// markDone ends it: all is restored, and only now the old content may be dropped.
func (w *swap) markDone(ctx context.Context, s *session) error {
	w.done = true
	return w.mark(ctx, s, placeOfDone, "noting the end")
}

// markUndoing comes before tables that have moved go back.
func (w *swap) markUndoing(ctx context.Context, s *session) error {
	w.undoing = true
	return w.mark(ctx, s, placeOfUndoing, "noting that tables go back")
}

func (w *swap) mark(ctx context.Context, s *session, place int, doing string) error {
	return s.exec(ctx, "INSERT INTO "+w.journal()+" VALUES (?, '') ON DUPLICATE KEY UPDATE piece = ''", doing, place)
}

// noted reads what a restore had begun; nil when that was nothing.
func (s *session) noted(ctx context.Context, fresh string) (*swap, error) {
	tables, err := s.movable(ctx, fresh)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(tables, "dg_swap_"+fresh) {
		return nil, nil
	}
	pieces, err := s.pairs(ctx, "SELECT n, piece FROM "+journalIn(fresh)+" ORDER BY n")
	if err != nil {
		return nil, err
	}
	var w swap
	var sum string
	var all strings.Builder
	for _, piece := range pieces {
		switch piece[0] {
		case strconv.Itoa(placeOfDone):
			w.done = true
		case strconv.Itoa(placeOfUndoing):
			w.undoing = true
		case "0":
			sum = piece[1]
		default:
			all.WriteString(piece[1])
		}
	}
	if digest := sha256.Sum256([]byte(all.String())); hex.EncodeToString(digest[:]) != sum {
		return nil, nil // it was not written to its end, and nothing has begun
	}
	if err := json.Unmarshal([]byte(all.String()), &w); err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the note in database %q, of a restore that was interrupted, cannot be read", fresh)
	}
	if w.Fresh != fresh || w.Replaced != engine.ReplacedPrefix+strings.TrimPrefix(fresh, engine.ScratchPrefix) {
		return nil, errs.New(errs.Conflict, errs.CodeConflict, "the note in database %q was not written by the restore of that name: find out who put it there", fresh)
	}
	return &w, nil
}

// putInOrder finishes or takes back what a restore that is gone had begun, and
// drops its databases. s holds its lock. What was done is told to log.
func (e *Engine) putInOrder(ctx context.Context, s *session, c engine.Conn, token string, log func(engine.Level, string)) error {
	fresh := engine.ScratchPrefix + token
	if err := s.exec(ctx, fmt.Sprintf("SET SESSION foreign_key_checks = 0, lock_wait_timeout = %d", e.lockPatience), "preparing to put things in order"); err != nil {
		return err
	}
	w, err := s.noted(ctx, fresh)
	if err != nil {
		return err
	}
	if w != nil && !w.done {
		outcome, err := e.recoverSwap(ctx, s, c, w, log)
		if err != nil {
			return err
		}
		log(engine.LevelWarn, "a restore that was interrupted "+outcome)
		if !w.done {
			if err := w.settle(ctx, s); err != nil {
				return err
			}
		}
	}
	return s.dropLeftovers(ctx, token, w != nil && w.done, log)
}

// dropLeftovers drops the databases of a restore that is gone. What was replaced goes
// only when proven is true: then the restore is done to its end. Otherwise all stays.
func (s *session) dropLeftovers(ctx context.Context, token string, proven bool, log func(engine.Level, string)) error {
	fresh, replaced := engine.ScratchPrefix+token, engine.ReplacedPrefix+token
	if !proven {
		tables, err := s.movable(ctx, replaced)
		if err != nil {
			return err
		}
		if len(tables) > 0 {
			return errs.New(errs.Conflict, errs.CodeConflict,
				"database %q holds tables that a restore replaced, and nothing proves that the restore was done to its end, so it is left: look into it, move what is needed (RENAME TABLE), then drop it, and %q if that is there",
				replaced, fresh)
		}
	}
	for _, name := range []string{replaced, fresh} { // the note goes last
		there, err := s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = ?", name)
		if err != nil {
			return err
		}
		if len(there) == 0 {
			continue
		}
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+ident(name), "dropping what a restore has left"); err != nil {
			return err
		}
		log(engine.LevelInfo, fmt.Sprintf("database %s, left behind by a restore that was interrupted, is dropped", name))
	}
	return nil
}

// recoverSwap gives a swap the tools that it takes. What is not as it was is told to log.
func (e *Engine) recoverSwap(ctx context.Context, s *session, c engine.Conn, w *swap, log func(engine.Level, string)) (outcome string, err error) {
	dir, remove, err := workDir("")
	if err != nil {
		return "", err
	}
	defer func() { err = also(err, remove()) }()
	c.Database = w.Target
	r := &restore{engine: e, conn: c, dir: dir, options: engine.RestoreOptions{Log: log}}
	if r.server, err = s.serverInfo(ctx); err != nil {
		return "", err
	}
	if err := r.chooseTool(ctx, s); err != nil {
		return "", err
	}
	return w.recover(ctx, r, s)
}
