package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// memoryLimit is what one backup at a time may take of a worker, whatever the
// size of the database.
const memoryLimit int64 = 200e6

// memory backs up databases of growing size to the disk, and the largest one also by
// two connections to S3 and by four to GCS, each time with a fresh server.
func memory(ctx context.Context, b *bench) (t table, err error) {
	err = b.onStage(ctx, func(s *stage) error {
		t, err = b.memoryTable(ctx, s)
		return err
	})
	return t, err
}

func (b *bench) memoryTable(ctx context.Context, s *stage) (table, error) {
	t := table{
		title: "Memory of a server that backs up",
		notes: []string{fmt.Sprintf("One backup each, with a fresh server (API and workers in one process). Peaks of resident memory. Aim: the server stays under %s, and does not grow with the database.", megabytes(memoryLimit))},
		head:  []string{"database", "to", "parallel_jobs", "server before", "server at peak", "pg_dump at peak", "wall", "under the limit"},
	}
	stores := openClouds(s)
	percents := []int{5, 100, 400} // of -size
	for i, part := range percents {
		jobs := []int32{1, 2, 4} // as many as there are places
		if i < len(percents)-1 {
			jobs = jobs[:1]
		}
		if err := b.memoryOf(ctx, s, stores, &t, int64(b.sizeMB)*1e4*int64(part), numbered("memory", i), jobs); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (b *bench) memoryOf(ctx context.Context, s *stage, stores clouds, t *table, bytes int64, name string, connections []int32) error {
	database := name + "_source"
	b.say("making a database of about %s", megabytes(bytes))
	if err := b.cluster.makeCompany(ctx, database, bytes); err != nil {
		return err
	}
	size, err := b.cluster.databaseSize(ctx, database)
	if err != nil {
		return err
	}
	for i, jobs := range connections {
		row, err := b.memoryTo(ctx, s, stores, i, jobs, database, numbered(name+"to", i))
		if err != nil {
			return err
		}
		t.add(append([]string{megabytes(size)}, row...)...)
	}
	return b.cluster.dropDatabase(ctx, database)
}

func (b *bench) memoryTo(ctx context.Context, s *stage, stores clouds, where int, jobs int32, database, name string) (row []string, err error) {
	control, err := b.startControl(ctx, b.servers[0].path, name, "all")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, control.stop()) }()
	datasource, err := control.datasource(ctx, pb.Datasource_postgres, "company "+name, b.cluster.connection(database))
	if err != nil {
		return nil, err
	}
	p := stores.places(s, control)[where] //nolint:contextcheck // the stage carries it
	location, err := control.location(ctx, p.kind, p.name, p.config)
	if err != nil {
		return nil, err
	}
	job, err := control.jobTo(ctx, name, datasource, location, &pb.BackupOptions{ParallelJobs: &jobs})
	if err != nil {
		return nil, err
	}
	before, _ := peakMemory(control.pid())
	w := watchProcesses(ctx, control.pid())
	began := time.Now()
	e, err := control.backUp(ctx, job)
	took := time.Since(began)
	_, all := w.end()
	if err != nil {
		return nil, err
	}
	server := w.memoryOf(control.pid())
	verdict := "yes"
	if server > memoryLimit {
		verdict = "NO"
	}
	b.say("to %s by %d: the server took %s", p.name, jobs, megabytes(server))
	return []string{p.name, fmt.Sprint(jobs), megabytes(before), megabytes(server), megabytes(all - server), seconds(took), verdict},
		control.remove(ctx, e.GetId())
}
