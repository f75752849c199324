"""Shards of images, the order in which they are read, and the stream of uint8 batches made of them.

``python -m data_shards --help`` lists the commands; a trainer needs ``data_shards.config.DataSettings`` and
``data_shards.loader.Loader``. The room knows neither the models nor the cluster.
"""
