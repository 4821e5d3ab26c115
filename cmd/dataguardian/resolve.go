package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// named is any resource that a person may call by its name.
type named interface {
	GetId() string
	GetName() string
}

// pageSize of the lists that are searched for a name.
const pageSize int32 = 100

// resolve returns the id of what was called by its id or name.
func resolve[T named](kind, given string, list func(page int32) ([]T, *pb.Pagination, error)) (string, error) {
	if uuid.Validate(given) == nil {
		return given, nil
	}
	for page := int32(1); ; page++ {
		rows, pagination, err := list(page)
		if err != nil {
			return "", err
		}
		for _, row := range rows {
			if row.GetName() == given {
				return row.GetId(), nil
			}
		}
		if page >= pagination.GetTotalPages() {
			return "", fmt.Errorf("no %s has the id or name %q; \"dataguardian %s list\" shows all", kind, given, kind)
		}
	}
}

func (c *client) datasourceID(ctx context.Context, given string) (string, error) {
	return resolve("datasource", given, func(page int32) ([]*pb.Datasource, *pb.Pagination, error) {
		r, err := c.datasources.ListDatasources(ctx, &pb.ListDatasourcesRequest{Page: &page, Limit: new(pageSize)})
		return r.GetData(), r.GetPagination(), err
	})
}

func (c *client) storageID(ctx context.Context, given string) (string, error) {
	return resolve("storage", given, func(page int32) ([]*pb.StorageLocation, *pb.Pagination, error) {
		r, err := c.storages.ListStorageLocations(ctx, &pb.ListStorageLocationsRequest{Page: &page, Limit: new(pageSize)})
		return r.GetData(), r.GetPagination(), err
	})
}

func (c *client) jobID(ctx context.Context, given string) (string, error) {
	return resolve("job", given, func(page int32) ([]*pb.BackupJob, *pb.Pagination, error) {
		r, err := c.backups.ListBackupJobs(ctx, &pb.ListBackupJobsRequest{Page: &page, Limit: new(pageSize)})
		return r.GetData(), r.GetPagination(), err
	})
}
