package main

import (
	"context"
	"fmt"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/storage/storagetest"
)

// uploads compares backups to every kind of storage with the dump alone, and with a
// tool that also compresses it and puts it on the disk: an upload that overlaps the
// dump costs no time of its own.
func uploads(ctx context.Context, b *bench) (t table, err error) {
	err = b.onStage(ctx, func(s *stage) error {
		t, err = b.uploadTable(ctx, s)
		return err
	})
	return t, err
}

func (b *bench) uploadTable(ctx context.Context, s *stage) (t table, _ error) {
	size, err := b.company(ctx)
	if err != nil {
		return t, err
	}
	tools, err := b.tools(source)
	if err != nil {
		return t, err
	}
	control, err := b.shared(ctx)
	if err != nil {
		return t, err
	}
	datasource, err := control.datasource(ctx, pb.Datasource_postgres, "company for uploads", b.cluster.connection(source))
	if err != nil {
		return t, err
	}
	contenders := []contender{tools[0], tools[2]}
	for _, p := range openClouds(s).places(s, control) { //nolint:contextcheck // the stage carries it
		location, err := control.location(ctx, p.kind, p.name, p.config)
		if err != nil {
			return t, err
		}
		job, err := control.jobTo(ctx, "to "+p.name, datasource, location, nil)
		if err != nil {
			return t, err
		}
		contenders = append(contenders, control.contender("to "+p.name, job))
	}
	if _, err := contenders[0].once(ctx); err != nil { // the disk's cache is warm for all
		return t, err
	}
	standings, err := b.compete(ctx, contenders)
	if err != nil {
		return t, err
	}
	t = backupTable(fmt.Sprintf("Backup of a database of %s to every kind of storage", megabytes(size)), standings, standings[:2], size, b.rounds)
	t.notes = append(t.notes, "The servers of S3 and GCS run on the same machine and take from its processors; theirs is not counted as CPU. Aim: wall / dump only of at most 1.10 where they don't; where processors are few, the second tool shows what compressing takes of them.")
	return t, nil
}

// spot is a place for backups.
type spot struct {
	name   string
	kind   pb.StorageLocation_Type
	config map[string]any
}

// clouds are servers of object storages.
type clouds struct {
	objects *storagetest.S3Server
	google  *storagetest.GCSServer
}

func openClouds(s *stage) clouds { return clouds{storagetest.StartS3(s), storagetest.StartGCS(s)} }

// places are one of every kind, empty.
func (o clouds) places(s *stage, c *control) []spot {
	return []spot{
		{"disk", pb.StorageLocation_local, map[string]any{"path": c.backups()}},
		{"S3", pb.StorageLocation_s3, s3Config(o.objects, o.objects.Endpoint, o.objects.NewBucket(s))},
		{"GCS", pb.StorageLocation_gcs, map[string]any{"endpoint": o.google.Endpoint, "bucket": o.google.NewBucket(s)}},
	}
}

func s3Config(server *storagetest.S3Server, endpoint, bucket string) map[string]any {
	return map[string]any{
		"endpoint": endpoint, "region": server.Region, "bucket": bucket,
		"access_key_id": server.AccessKey, "secret_access_key": server.SecretKey, "force_path_style": true,
	}
}
