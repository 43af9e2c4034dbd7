// Command mongo is a client of MongoDB's protocol:
//
//	mongo ADDRESS ping               answers whether it serves
//	mongo ADDRESS write|read COUNT   makes so many documents, reads them
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

type document struct {
	ID    int    `bson:"_id"`
	Entry string `bson:"entry"`
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mongo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: mongo ADDRESS ping|write|read [COUNT]")
	}
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + args[0] + "/?directConnection=true").SetServerSelectionTimeout(time.Minute))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	if args[1] == "ping" {
		return client.Ping(ctx, nil)
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	log := client.Database("ships").Collection("log")
	if args[1] == "write" {
		return write(ctx, log, count)
	}
	return read(ctx, log, count)
}

func entry(n int) string { return fmt.Sprintf("day %d: all well", n) }

func write(ctx context.Context, log *mongo.Collection, count int) error {
	documents := make([]any, count)
	for n := range documents {
		documents[n] = document{n, entry(n)}
	}
	_, err := log.InsertMany(ctx, documents)
	return err
}

func read(ctx context.Context, log *mongo.Collection, count int) error {
	cursor, err := log.Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		return err
	}
	var got []document
	if err := cursor.All(ctx, &got); err != nil {
		return err
	}
	if len(got) != count {
		return fmt.Errorf("there are %d documents of %d", len(got), count)
	}
	for n, d := range got {
		if d != (document{n, entry(n)}) {
			return fmt.Errorf("document %d is %+v", n, d)
		}
	}
	return nil
}
