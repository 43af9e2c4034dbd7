package image

// FlattenWith is Flatten with other bounds.
var FlattenWith = flatten
