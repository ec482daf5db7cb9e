"""Chooses percepts and a classifier by cross-validation; `study` puts the other modules together.

sets        the labelled videos, as several data sets of percepts have them
folds       folds of a repeated cross-validation
statistics  classifiers of a video's percepts, summed up over time
networks    classifiers of the package, trained on folds
scores      accuracies and differences with intervals; the correction for choosing the best
study       all candidates within a budget of time, in a folder that can be resumed
model       the recommended classifier of statistics, for new videos
videos      sets of percepts, made from a folder of videos
"""
