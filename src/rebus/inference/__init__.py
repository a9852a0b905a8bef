"""A trained model answering: predictions, generation, likelihoods, embeddings."""
