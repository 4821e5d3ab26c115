package main

import (
	"context"
	"fmt"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/storage/storagetest"
)

// uploads compares backups to every kind of storage with the dump alone, and with a
// tool that also compresses it and puts it on the disk: an upload that overlaps the
// dump costs no time of its own. They dump from a database on the same machine, which
// takes its part of the processors, and over a link that keeps the dump waiting.
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
	control, err := b.shared(ctx)
	if err != nil {
		return t, err
	}
	storages, err := b.storages(ctx, s, control)
	if err != nil {
		return t, err
	}
	far := openLink(s, b.cluster)
	var contenders []contender
	for _, r := range []route{
		{"", b.cluster.client(source), b.cluster.connection(source)},
		{fmt.Sprintf(", %.0f Mbit/s", linkRate*8/1e6), far.client(b.cluster, source), far.connection(b.cluster, source)},
	} {
		more, err := b.uploadsFrom(ctx, control, r, storages)
		if err != nil {
			return t, err
		}
		contenders = append(contenders, more...)
	}
	if _, err := contenders[0].once(ctx); err != nil { // the disk's cache is warm for all
		return t, err
	}
	standings, err := b.compete(ctx, contenders)
	if err != nil {
		return t, err
	}
	here, there := standings[:len(standings)/2], standings[len(standings)/2:]
	t = backupTable(fmt.Sprintf("Backup of a database of %s to every kind of storage", megabytes(size)), here, here[:2], size, b.rounds)
	t.rows = append(t.rows, backupTable("", there, there[:2], size, b.rounds).rows...)
	t.notes = append(t.notes, fmt.Sprintf("The database, and the servers of S3 and GCS, run on the same machine and take from its processors; theirs is not counted as CPU. "+
		"Where processors are few, what compressing takes of them is taken from the dump, as the second tool shows. In the rows of %.0f Mbit/s the database is at the other end of a link that carries so much; "+
		"they are beside the tools that dump over the same link. Aim there: wall / dump only of at most 1.10.", linkRate*8/1e6))
	return t, nil
}

// route is a way to the database.
type route struct {
	name       string         // behind that of a contender; empty for the nearest way
	client     []string       // for programs
	connection map[string]any // for servers of ours
}

// named is a storage that our server knows.
type named struct{ name, id string }

// storages are one of every kind.
func (b *bench) storages(ctx context.Context, s *stage, c *control) (all []named, _ error) {
	for _, p := range openClouds(s).places(s, c) { //nolint:contextcheck // the stage carries it
		id, err := c.location(ctx, p.kind, p.name, p.config)
		if err != nil {
			return nil, err
		}
		all = append(all, named{p.name, id})
	}
	return all, nil
}

// uploadsFrom are the contenders that dump by a route.
func (b *bench) uploadsFrom(ctx context.Context, c *control, r route, storages []named) ([]contender, error) {
	tools, err := b.tools(r.client)
	if err != nil {
		return nil, err
	}
	contenders := []contender{tools[0], tools[2]}
	for i := range contenders {
		contenders[i].name += r.name
	}
	datasource, err := c.datasource(ctx, pb.Datasource_postgres, "company for uploads"+r.name, r.connection)
	if err != nil {
		return nil, err
	}
	for _, s := range storages {
		name := "to " + s.name + r.name
		job, err := c.jobTo(ctx, name, datasource, s.id, nil)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, c.contender(name, job))
	}
	return contenders, nil
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
