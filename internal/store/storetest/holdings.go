package storetest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/explorer"
	"github.com/dataguardian/dataguardian/internal/location"
)

func holdings(t *testing.T, w *world) {
	s := w.Holdings()
	shared := w.newLocation(t)
	at := func(t *testing.T, path string) (paths []string) {
		held, total, err := s.At(t.Context(), shared.ID, path, 100)
		require.NoError(t, err)
		require.Len(t, held, total)
		for _, h := range held {
			paths = append(paths, h.Path)
		}
		return paths
	}
	j := w.newJob(t, func(j *backup.Job) { j.StorageLocationID = shared.ID })
	one, two := w.complete(t, j), w.complete(t, j)
	first, second := *one.BackupPath, *two.BackupPath

	t.Run("a backup holds its folder, what lies in it, and the folders above", func(t *testing.T) {
		for path, want := range map[string][]string{
			"shop": {second, first}, first: {first}, first + "/manifest.json": {first}, first + "/anything/at/all": {first}, second: {second},
			"sho": nil, "shop2": nil, first[:len(first)-1]: nil, first + "x": nil, "x/" + first: nil, "%": nil, "shop_": nil, "": nil, "shop%": nil,
		} {
			require.Equal(t, want, at(t, path), "%q", path)
		}
	})
	t.Run("a backup is named, the newest first", func(t *testing.T) {
		held, total, err := s.At(t.Context(), shared.ID, "shop", 1)
		require.NoError(t, err)
		require.Equal(t, 2, total)
		require.Equal(t, []explorer.Holding{{
			ExecutionID: two.ID, DatasourceName: j.DatasourceName, JobName: j.Name, Path: second, Status: backup.CopyAvailable, CreatedAt: two.CreatedAt,
		}}, held)
	})
	t.Run("elsewhere it holds nothing", func(t *testing.T) {
		for _, id := range append(absent(), w.newLocation(t).ID) {
			held, total, err := s.At(t.Context(), id, "shop", 100)
			require.NoError(t, err)
			require.Empty(t, held)
			require.Zero(t, total)
			lost, err := s.Lose(t.Context(), id, "shop", "gone")
			require.NoError(t, err)
			require.Zero(t, lost)
		}
	})
	t.Run("what is being written is held and comes first; what a lost worker left is not", func(t *testing.T) {
		other := w.newLocation(t)
		j := w.newJob(t, func(j *backup.Job) { j.StorageLocationID = other.ID })
		w.complete(t, j)
		e, l := w.run(t, j)
		require.NoError(t, w.Executions().BeginCopy(t.Context(), l, other.ID, "shop/new"))
		held, total, err := s.At(t.Context(), other.ID, "shop", 1)
		require.NoError(t, err)
		require.Equal(t, 2, total)
		require.Equal(t, backup.CopyPending, held[0].Status)
		w.expire(t, e.ID)
		_, err = w.Executions().Reap(t.Context(), e, nil)
		require.NoError(t, err)
		held, _, err = s.At(t.Context(), other.ID, "shop/new", 1)
		require.NoError(t, err)
		require.Empty(t, held)
		w.exec(t, "update backup_executions set status = 'cancelled', finished_at = now() where id = $1", e.ID)
	})
	t.Run("who loses a part loses the backup, who loses another file does not", func(t *testing.T) {
		lost := func(path string) backup.CopyStatus {
			l := w.newLocation(t, func(l *location.Location) { l.Name = "for " + path + id() })
			j := w.newJob(t, func(j *backup.Job) { j.StorageLocationID = l.ID })
			done := w.complete(t, j)
			n, err := s.Lose(t.Context(), l.ID, strings.Replace(path, "BACKUP", *done.BackupPath, 1), "deleted by hand")
			require.NoError(t, err)
			b, err := w.Catalogue().Get(t.Context(), done.ID)
			require.NoError(t, err)
			require.Equal(t, b.Copies[0].Status == backup.CopyMissing, n == 1)
			if n == 1 {
				require.Equal(t, "deleted by hand", b.Copies[0].Error)
			}
			return b.Copies[0].Status
		}
		for _, path := range []string{"BACKUP", "shop", "BACKUP/manifest.json", "BACKUP/backup.dump.zst.0002"} {
			require.Equal(t, backup.CopyMissing, lost(path), path)
		}
		for _, path := range []string{"BACKUP/notes.txt", "sho", "BACKUP/backup.dump", "BACKUP/manifest.json/x", "BACKUP2"} {
			require.Equal(t, backup.CopyAvailable, lost(path), path)
		}
	})
	t.Run("a copy at another path loses what lies there", func(t *testing.T) {
		l := w.newLocation(t)
		j := w.newJob(t, func(j *backup.Job) { j.StorageLocationID = l.ID })
		done := w.complete(t, j)
		w.exec(t, "update backup_copies set path = 'moved/' || path where execution_id = $1", done.ID)
		for path, copies := range map[string]int{*done.BackupPath: 0, "moved/" + *done.BackupPath: 1} {
			n, err := s.Lose(t.Context(), l.ID, path+"/backup.dump.zst.0002", "deleted by hand")
			require.NoError(t, err)
			require.Equal(t, copies, n, path)
		}
	})
	t.Run("a lost one is held still, until it is deleted", func(t *testing.T) {
		n, err := s.Lose(t.Context(), shared.ID, first, "deleted by hand")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{first}, at(t, first))
		n, err = s.Lose(t.Context(), shared.ID, first, "deleted by hand")
		require.NoError(t, err)
		require.Zero(t, n, "it was lost already")
		_, err = w.Catalogue().MarkDeleting(t.Context(), []string{one.ID, two.ID})
		require.NoError(t, err)
		require.Empty(t, at(t, "shop"))
	})
}
